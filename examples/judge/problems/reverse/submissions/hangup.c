/* Closes its streams, as if it had ended, and burns on. */
#include <unistd.h>

int main(void) {
    for (int fd = 0; fd < 3; fd++) close(fd);
    for (volatile long i = 0;; i++) {}
}
