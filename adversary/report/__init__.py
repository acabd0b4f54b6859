"""What a run leaves behind: its folder, its pictures and its report."""
