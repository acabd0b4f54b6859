"""What the pages of docs/results say, made of the rows in benchmarks/results.

A module here is a page: ``page`` takes what its files hold, in their order, and returns Markdown.
Prose lies in ``templates``, where a figure that a row has is looked up and never typed. To add a
page: a module, a line in :data:`benchmarks.pages.PAGES`, one in the menu of mkdocs.yml.
"""
