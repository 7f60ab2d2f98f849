"""Code that every app of the shop may import: money, e-mail addresses, read-only admins, files.

It imports no app and has no tables.
"""
