#include "data/path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *hb_path_append(const char *path, const char *suffix)
{
    size_t size = strlen(path) + strlen(suffix) + 1;
    char *joined = malloc(size);
    if (joined)
        snprintf(joined, size, "%s%s", path, suffix);
    return joined;
}
