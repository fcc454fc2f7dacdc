"""A package, so that the browser, which lasts as long as one, ends with its tests."""
