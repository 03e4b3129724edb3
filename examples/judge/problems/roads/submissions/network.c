/* Tries to reach the network. Code 3 says that neither an address nor a name could be reached. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int reach_address(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)};
    inet_pton(AF_INET, "1.1.1.1", &to.sin_addr);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (s >= 0 && connect(s, (struct sockaddr *)&to, sizeof to) == 0) return 1;
    fprintf(stderr, "1.1.1.1: %m; ");
    return 0;
}

static int reach_name(void) {
    struct addrinfo *found = NULL;
    int error = getaddrinfo("example.com", "80", NULL, &found);
    if (error == 0) return 1;
    fprintf(stderr, "example.com: %s\n", gai_strerror(error));
    return 0;
}

int main(void) {
    int reached = reach_address() + reach_name();
    printf("reached %d of 2\n", reached);
    return reached ? 0 : 3;
}
