/* Kills itself, as the kernel would for memory. */
#include <signal.h>

int main(void) {
    raise(SIGKILL);
    return 0;
}
