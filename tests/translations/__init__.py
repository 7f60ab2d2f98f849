"""Catalogues of translations: extraction, update, compilation and the tests of their contents."""
