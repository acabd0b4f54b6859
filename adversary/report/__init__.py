"""Pages and pictures of a run, made from its folder alone; and the ledger that fills the folder.

Imports any room of ``adversary``. To add a page or a part of one: a module that turns rows into
what is shown, and a template in ``templates``.
"""
