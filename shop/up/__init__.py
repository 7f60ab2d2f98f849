"""`manage.py up`: the whole stack on one machine, with one command.

The general half does not depend on this project: `console` prints, `processes` runs one program,
`supervisor` runs several in order and stops them in reverse, `guardian` stops them if the
supervisor itself is killed, `reload` watches the code, `lock` prevents a second supervisor,
`control` takes the requests of the development drawer.

The other half is specific: `broker` and `programs` define the servers, `stack` the order of the
start, `setup` migrates and adds demo data, `banner` prints the next steps.
"""
