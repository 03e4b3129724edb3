/* Leaves a daemon behind that holds its streams and sleeps for ever: the judge does not wait for that. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
    if (fork() == 0) {
        setsid();
        if (fork() == 0) sleep(3600);
        _exit(0);
    }
    puts("rajlleb");
    return 0;
}
