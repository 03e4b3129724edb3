# Tries to print the password hashes of the host. Code 4 says that it was not given them.
import sys

try:
    print(open("/etc/shadow").read())
except OSError as error:
    print(error, file=sys.stderr)
    sys.exit(4)
