/* Eight threads that burn, and a main thread that waits for them. */
#include <pthread.h>

static void *burn(void *unused) {
    for (volatile long i = 0;; i++) {}
    return unused;
}

int main(void) {
    pthread_t thread;
    for (int i = 0; i < 8; i++) pthread_create(&thread, NULL, burn, NULL);
    pthread_join(thread, NULL);
    return 0;
}
