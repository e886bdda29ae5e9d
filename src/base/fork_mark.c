#include "base/fork_mark.h"

#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }

/* A page of its own: of what madvise concerns, nothing else may be near. */
#if defined(MADV_WIPEONFORK)
/* Where any advice succeeds, none is taken: user-mode qemu 7.2 answers 0 to all and wipes nothing. */
static bool is_wiped_on_fork(void *page) {
    const int no_advice = -1;
    return madvise(page, page_bytes(), no_advice) && !madvise(page, page_bytes(), MADV_WIPEONFORK);
}

static volatile unsigned char *new_page(void) {
    void *page = mmap(NULL, page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return NULL;
    if (is_wiped_on_fork(page)) return page;
    munmap(page, page_bytes());
    return NULL;
}
#else
static volatile unsigned char *new_page(void) { return NULL; }
#endif

/* A child's page is wiped, and will be in children of its own. */
void psg_fork_mark_set(psg_fork_mark *mark) {
    mark->pid = getpid();
    if (!mark->page) mark->page = new_page();
    if (mark->page) *mark->page = 1;
}

void psg_fork_mark_remove(psg_fork_mark *mark) {
    if (mark->page) munmap((void *)mark->page, page_bytes());
    *mark = (psg_fork_mark){ 0, NULL };
}

/* The page sees every fork, and without a system call. */
bool psg_has_forked(const psg_fork_mark *mark) { return mark->page ? !*mark->page : mark->pid != getpid(); }
