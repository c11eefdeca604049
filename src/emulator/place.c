#define _GNU_SOURCE /* dladdr */
#include "emulator/place.h"

#include <dlfcn.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* The first line that addr2line prints. */
static int ask(const char *file, const char *offset, char *line, size_t size)
{
    char *argv[] = {(char *)(uintptr_t)"addr2line", (char *)(uintptr_t)"-e", (char *)(uintptr_t)file,
                    (char *)(uintptr_t)offset, NULL};
    int ends[2];
    pid_t child;
    posix_spawn_file_actions_t actions;
    if (pipe(ends) != 0)
        return 0;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    int spawned = posix_spawnp(&child, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    size_t used = 0;
    ssize_t got;
    while (spawned == 0 && used + 1 < size && (got = read(ends[0], line + used, size - 1 - used)) > 0)
        used += (size_t)got;
    close(ends[0]);
    line[used] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (spawned == 0)
        waitpid(child, NULL, 0);
    return line[0] != '\0' && line[0] != '?';
}

char *hb_place_text(const void *address, char text[HB_PLACE_TEXT])
{
    Dl_info info;
    char offset[32], line[512];
    const char *call = (const char *)address - 1; /* the address is where the call returns to */
    if (!dladdr(call, &info) || !info.dli_fname) {
        snprintf(text, HB_PLACE_TEXT, "%p", address);
        return text;
    }
    snprintf(offset, sizeof offset, "0x%zx", (size_t)(call - (const char *)info.dli_fbase));
    const char *file = info.dli_fname;
    if (ask(file, offset, line, sizeof line)) {
        const char *slash = strrchr(line, '/');
        snprintf(text, HB_PLACE_TEXT, "%.*s", (int)strcspn(slash ? slash + 1 : line, " "),
                 slash ? slash + 1 : line);
    } else {
        const char *slash = strrchr(file, '/');
        snprintf(text, HB_PLACE_TEXT, "%.100s+%s", slash ? slash + 1 : file, offset);
    }
    return text;
}
