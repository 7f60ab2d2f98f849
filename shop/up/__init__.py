"""`manage.py up`: the whole stack on one machine, with one command.

The general half knows nothing of this project: `console` prints, `processes` runs one program,
`supervisor` runs several in order and stops them in reverse, `guardian` stops them when the
supervisor itself is killed, `reload` watches the code, `lock` keeps a second supervisor out.

The other half is this project's: `broker` and `bank` say which servers, `stack` what is started in
which order, `setup` migrates and adds demo data, `banner` tells the user what to do next.
"""
