"""report.html: one file that shows what was found, for reading and for reviewing.

`evidence` finds the rows that speak for a suspect and against it, `gallery` collects what is shown
of them, `plots` turns scores into points and bars, `maps` relations over the epochs into points,
`contents` puts everything into one dictionary, and `html` puts that, as JSON, beside the page's own
files (page.html, *.css, *.js), which are plain and fetch nothing. The browser does the rest: no
server, no network.
"""
