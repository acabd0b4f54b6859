"""Readers of files that anyone may hand over: DICOM, images, npz, tables; each checks sizes first.

To add a format: a file, and a line where :mod:`fl_sim.data.files.images` chooses by suffix.
"""
