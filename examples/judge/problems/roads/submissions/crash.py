# Ends as a broken extension module would.
import signal

signal.raise_signal(signal.SIGSEGV)
