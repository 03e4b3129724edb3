# Ends with the code by which shells tell of SIGSEGV: that of a child that really had one.
import os
import signal
import sys

child = os.fork()
if child == 0:
    os.kill(os.getpid(), signal.SIGSEGV)
_, status = os.waitpid(child, 0)
sys.exit(128 + os.WTERMSIG(status))
