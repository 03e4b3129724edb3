/* Kills its parent, process 1 and everybody there is, and then answers as if nothing had happened: nothing has. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
    int fatal[] = {SIGTERM, SIGSTOP, SIGSEGV, SIGKILL};
    for (int i = 0; i < 4; i++) {
        kill(getppid(), fatal[i]);
        kill(1, fatal[i]);
    }
    kill(-1, SIGKILL);
    puts("rajlleb");
    return 0;
}
