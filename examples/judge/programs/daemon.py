# Answers right, and tries to leave a process behind that watches what comes after it.
import os
import sys
import time

if os.fork() == 0:
    try:
        os.setsid()
    except OSError:
        pass
    if os.fork() == 0:
        for descriptor in (0, 1, 2):
            os.close(descriptor)
        time.sleep(3600)
    os._exit(0)

for line in sys.stdin.read().splitlines():
    print(line[::-1])
