/* A system call by the table of another architecture, where there is one; else what the filter does about it. */
#include <signal.h>

int main(void) {
#ifdef __x86_64__
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
#else
    raise(SIGSYS);
#endif
    return 0;
}
