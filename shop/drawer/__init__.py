"""The development drawer of the storefront: what the last click caused, and buttons for faults.

It is an app of its own, so that its views, addresses, templates and static files are absent where
it is not installed (shop/settings/drawer.py).
"""
