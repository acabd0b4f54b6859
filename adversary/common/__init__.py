"""What every room may use and no room owns: results, files, seeds, errors, torch's state.

Nothing here knows an attack, an observation or a report, and nothing of the project is imported.
``truth`` is here because bounds and scores share it; no module of ``adversary.attacks`` may import
it.

To add something: only what two rooms need, one subject a file.
"""
