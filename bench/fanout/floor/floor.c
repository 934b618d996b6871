// The floor: what delivering one change to N sockets costs at the least. One
// thread, one epoll instance, one buffer that is encoded once and written to
// every socket. POST /pub publishes its body as one event; every other request
// opens a stream. It trusts its clients and serves measurements only.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FDS = 20000, MAX_BODY = 1 << 16 };
static char *pending[MAX_FDS];
static int pending_len[MAX_FDS];
static int subscriber[MAX_FDS], subscribers, place[MAX_FDS];

static void leave(int fd) {
	if (place[fd] > 0) {
		int last = subscriber[--subscribers];
		subscriber[place[fd] - 1] = last;
		place[last] = place[fd];
		place[fd] = 0;
	}
	free(pending[fd]);
	pending[fd] = NULL;
	pending_len[fd] = 0;
	close(fd);
}

static void publish(const char *body, int n) {
	static char event[MAX_BODY + 64], framed[MAX_BODY + 128];
	int size = snprintf(event, sizeof event, "data: %.*s\n\n", n, body);
	int len = snprintf(framed, sizeof framed, "%x\r\n%s\r\n", size, event);
	for (int i = 0; i < subscribers; i++)
		// Paced so that sockets never fill: a short write is a fault.
		if (send(subscriber[i], framed, len, MSG_DONTWAIT | MSG_NOSIGNAL) != len)
			fprintf(stderr, "short write: %s\n", strerror(errno));
}

static void request(int fd) {
	if (pending[fd] == NULL)
		pending[fd] = malloc(MAX_BODY);
	int n = read(fd, pending[fd] + pending_len[fd], MAX_BODY - 1 - pending_len[fd]);
	if (n <= 0) {
		if (n == 0 || errno != EAGAIN)
			leave(fd);
		return;
	}
	char *text = pending[fd];
	pending_len[fd] += n;
	text[pending_len[fd]] = 0;
	char *end = strstr(text, "\r\n\r\n");
	if (end == NULL)
		return;
	if (strncmp(text, "POST", 4) == 0) {
		char *length = strcasestr(text, "content-length:");
		int want = length == NULL ? 0 : atoi(length + 15);
		int have = pending_len[fd] - (end + 4 - text);
		if (have < want)
			return;
		static const char ok[] = "HTTP/1.1 204 No Content\r\n\r\n";
		publish(end + 4, want);
		send(fd, ok, sizeof ok - 1, MSG_NOSIGNAL);
		pending_len[fd] = 0;
		return;
	}
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
		"Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n:\n\n\r\n";
	send(fd, head, sizeof head - 1, MSG_NOSIGNAL);
	free(pending[fd]);
	pending[fd] = NULL;
	pending_len[fd] = 0;
	subscriber[subscribers++] = fd;
	place[fd] = subscribers;
}

int main(int argc, char **argv) {
	signal(SIGPIPE, SIG_IGN);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1, ep = epoll_create1(0);
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 0)};
	inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) {
		perror("listen");
		return 1;
	}
	struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, found[256];
	epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
	for (;;) {
		int n = epoll_wait(ep, found, 256, -1);
		for (int i = 0; i < n; i++) {
			int fd = found[i].data.fd;
			if (fd != listener) {
				if (place[fd] > 0)
					leave(fd); // a subscriber sends nothing: it has left
				else
					request(fd);
				continue;
			}
			while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
				if (fd >= MAX_FDS) {
					close(fd);
					continue;
				}
				setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
				e = (struct epoll_event){.events = EPOLLIN | EPOLLRDHUP, .data.fd = fd};
				epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
			}
		}
	}
}
