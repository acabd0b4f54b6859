"""Dao and Lee's EncGradInversion (IEEE IoT Journal 2025): their data, tables and time figure.

``datasets`` reads their three image sets as they are published, ``selection`` says which images
make a batch, ``cells`` which rows a table has, ``protocol`` measures one, ``memory`` says
beforehand whether it fits, ``published`` holds what they report, ``authors`` runs their own code.
The entry is :mod:`benchmarks.paper`.
"""
