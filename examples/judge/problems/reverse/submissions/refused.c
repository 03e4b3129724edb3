/* Makes threads until it is refused. Code 5 says that it was. */
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

static void *rest(void *unused) {
    pause();
    return unused;
}

int main(void) {
    for (int i = 0; i < 10000; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, rest, NULL) == EAGAIN) _exit(5);
    }
    return 0;
}
