"""The console: what the API offers, as pages for people. Django templates and htmx; no rules of its own.

``views/`` fetch through the other apps' selectors and act through their services; ``presenters/`` turn rows into what
a template shows; ``charts.py`` and ``worldmap.py`` compute pictures (SVG geometry) and know nothing of HTTP.
"""
