/* Stops itself, with a child that is to do the same. */
#include <signal.h>
#include <unistd.h>

int main(void) {
    fork();
    raise(SIGSTOP);
    return 0;
}
