/* One short-lived process after another: each burns for a moment and is gone before anybody looks. */
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    for (;;) {
        if (fork() == 0) {
            for (volatile long i = 0; i < 300000; i++) {}
            _exit(0);
        }
        wait(NULL);
    }
}
