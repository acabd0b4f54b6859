"""Work on what a run or a client has left behind: attacks again, audits, comparisons.

Nothing here imports Flower or Ray.
"""
