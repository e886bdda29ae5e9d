#include "failing_memory.h"

#include <string.h>

#define MARK "no such route, by which texts of later calls are known"

/* 1 where an allocation failed. */
static int fails_at(test_allocator *allocator, psg_context *context, memory_call call, void *user, uint64_t n,
                    bool forever) {
    const size_t blocks = allocator->live_blocks;
    const uint64_t failed = allocator->failed;
    assert_int_equal(psg_context_force_route(context, MARK), PSG_ERR_ARGUMENT);
    test_allocator_arm(allocator, n, forever);
    psg_status status = call(user);
    const int has_failed = allocator->failed > failed;
    test_allocator_arm(allocator, 0, false);
    test_status(context, status, has_failed ? PSG_ERR_MEMORY : PSG_OK, "a call without memory");
    assert_int_equal(!strstr(psg_context_message(context), MARK), has_failed);
    assert_int_equal(allocator->live_blocks, blocks);
    return has_failed;
}

uint64_t test_without_memory(test_allocator *allocator, psg_context *context, memory_call call, void *user) {
    uint64_t n = 1;
    for (; fails_at(allocator, context, call, user, n, false); n++) {
        assert_true(fails_at(allocator, context, call, user, n, true));
    }
    return n - 1;
}
