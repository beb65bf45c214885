// What the in-zone init knows. Part of zinit_linux.c.
#ifndef MOBULA_ZINIT_STATE_H
#define MOBULA_ZINIT_STATE_H

#include "program.h"

enum { MAX_CONNS = 512, MAX_SERVICES = 64, RING = 64 * 1024 };


enum kind { FREE, FRESH, STARTING, RUNNING, CONSOLE };

struct conn {
	enum kind kind;
	int fd, report, master;
	pid_t pid;
	int ended, status; // it ended, and that is not told yet: its start is not, or others are still being killed
	int alone;         // its end is everybody's
};

struct service {
	struct program p;
	pid_t pid;
	time_t again; // when to start it again, 0 for not
};

static struct conn conns[MAX_CONNS];
static struct service services[MAX_SERVICES];
static int nservices, main_service = -1;
static int listener = ZINIT_LISTEN_FD, signals = -1, console = -1, devnull = -1;
static int is_init, begun, stopping, stop_signal = SIGTERM, exit_code;
static char ring[RING];
static uint64_t ring_end;

#endif
