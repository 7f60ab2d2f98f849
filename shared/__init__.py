"""Code that every app of the shop may import.

Money, e-mail addresses, read-only admins, files, operations of migrations. It
imports no app and has no tables.
"""
