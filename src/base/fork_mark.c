#include "base/fork_mark.h"

#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

/* At the start of a page of its own: of what madvise concerns, nothing else may be near. */
struct psg_fork_mark {
    volatile unsigned char present;
};

static size_t page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }

#if defined(MADV_WIPEONFORK)
psg_fork_mark *psg_fork_mark_create(void) {
    void *page = mmap(NULL, page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return NULL;
    psg_fork_mark *mark = page;
    if (madvise(page, page_bytes(), MADV_WIPEONFORK)) {
        psg_fork_mark_destroy(mark);
        return NULL;
    }
    mark->present = 1;
    return mark;
}
#else
psg_fork_mark *psg_fork_mark_create(void) { return NULL; }
#endif

void psg_fork_mark_destroy(psg_fork_mark *mark) {
    if (mark) munmap(mark, page_bytes());
}

bool psg_fork_mark_is_gone(const psg_fork_mark *mark) { return mark && !mark->present; }
