"""`capguard demo`: real traffic against caps, on this machine, with nothing to set up.

traffic.py says who calls when; worker.py makes the calls in one process, crew.py runs the processes; tally.py follows
the journal; screen.py shows it; report.py checks what must agree; ending.py prints it.
"""
