/* Each operation of the core in a process that is killed after its first change of shared memory, after its second, and
 * so on until it completes; and the repair that this calls for, in a process that is killed in the same way.
 *
 * After each death: the others go on at once; every invariant holds; the content is what it was before the operation or
 * what it is after it; the dead process's things are reaped; and with all taken out, all memory is free.
 *
 *     kills SEED DEATHS messages|groups|waiting|life|streams|chance|"SCENE"
 *
 * DEATHS: in how many random places of each scene a repair is killed, at each of its changes. A scene that is named is
 * killed at all of its changes, however many.
 */
#include "scenes.h"

#include "faults.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SURVIVOR_WAITS "a"
#define MANY 300 /* changes; what makes more copies a large payload, and is killed at some of those in the middle */

#define PROBE 77
#define SITUATIONS 16 /* made by chance */

/* What a victim has to say. */
struct report {
    uint32_t changes;
    enum status status;
    bool is_done, missed_a_store;
};

/* One segment, the survivor in it, and which process was killed there so far, where. */
struct stage {
    int fd;
    struct handle *handle;
    uint32_t rebuilds;
    uint32_t loan; /* of the survivor, which is about to send what is in it */
};

static struct report *report;
static const struct scene *scene;
static char scene_before[CONTENT], scene_after[CONTENT]; /* what the scene says, or what came of it */
static bool is_thorough;
static uint32_t deaths[3], deaths_count;
static uint64_t kills;

static void say_where(int number) {
    char text[300];
    int length = snprintf(text, sizeof text, "kills: in \"%s\", killed after %u, %u, %u changes (%u deaths)\n",
                          scene->name, deaths[0], deaths[1], deaths[2], deaths_count);
    (void)!write(STDERR_FILENO, text, (size_t)length);
    (void)signal(number, SIG_DFL);
}

static struct handle *map(int fd) {
    const char *reason;
    struct handle *handle = calloc(1, sizeof *handle);
    MUST(handle != NULL && segment_map(fd, fd, handle, &reason) == OK);
    return handle;
}

static uint32_t loaned_message(struct handle *handle) {
    char bytes[MEDIUM];
    uint32_t loan;
    fill_payload(bytes, MEDIUM, PROBE);
    MUST(op_loan_reserve(handle, WAIT, 0, MEDIUM, false, &loan) == OK);
    MUST(loan_fill(handle, loan, (struct name){"", 0}, bytes, MEDIUM, false));
    return loan;
}

static void raise_the_curtain(struct stage *stage) {
    stage->fd = new_segment(1024 * KIB, 512 * KIB);
    stage->handle = map(stage->fd);
    MUST(segment_join(stage->handle) == OK);
    open_inbox(stage->handle, "s.1!");
    open_loop(stage->handle);
    wait_for(stage->handle, SURVIVOR_WAITS);
    wait_for(stage->handle, "s.1!");
    sleep_now(stage->handle);
    stage->loan = loaned_message(stage->handle);
    if (scene->set != NULL)
        scene->set(stage->handle);
    stage->rebuilds = stage->handle->header->rebuilds;
    deaths_count = 0;
    deaths[0] = deaths[1] = deaths[2] = 0;
}

static void drop_the_curtain(struct stage *stage) {
    MUST(segment_leave(stage->handle) == OK);
    segment_unmap(stage->handle);
    free(stage->handle);
    close(stage->fd);
}

static void wait_for_death(pid_t pid) {
    must_be_killed(pid);
    kills++;
}

/* A view of its own; the inherited one would be the same memory at another address. */
static struct handle *begin_victim(struct stage *stage) {
    segment_unmap(stage->handle);
    return map(stage->fd);
}

/* A process is killed after so many changes of the scene's act. */
static void kill_in_act(struct stage *stage, uint32_t changes, bool watch) {
    *report = (struct report){.is_done = false};
    deaths[deaths_count++] = changes;
    pid_t pid = fork_child();
    if (pid == 0) {
        struct handle *handle = begin_victim(stage);
        if (!scene->attaches)
            MUST(segment_join(handle) == OK);
        if (scene->ready != NULL)
            scene->ready(handle);
        if (!scene->attaches)
            nobody_does_housekeeping(handle);
        if (watch)
            faults_watch();
        faults_arm(changes);
        report->status = scene->act(handle);
        report->changes = faults_disarm();
        report->missed_a_store = watch && faults_missed_a_store();
        report->is_done = true;
        (void)kill(getpid(), SIGKILL);
    }
    wait_for_death(pid);
}

/* A process joins after a death, so that it has to repair, and is killed after so many changes. */
static void kill_in_repair(struct stage *stage, uint32_t changes) {
    *report = (struct report){.is_done = false};
    deaths[deaths_count++] = changes;
    pid_t pid = fork_child();
    if (pid == 0) {
        struct handle *handle = begin_victim(stage);
        faults_arm(changes);
        report->status = segment_join(handle);
        report->changes = faults_disarm();
        report->is_done = true;
        (void)kill(getpid(), SIGKILL);
    }
    wait_for_death(pid);
}

static void must_equal(const char *found, const char *expected) {
    if (strcmp(found, expected) == 0)
        return;
    fprintf(stderr, "found    %s\nexpected %s\n", found, expected);
    wrong(__FILE__, __LINE__, "the content is as before or as after the operation");
}

/* The first call of the survivor after the death goes through, and finds a sound segment with what should be in it. */
static void go_on(struct stage *stage, char content[CONTENT]) {
    char error[160], before[CONTENT], after[CONTENT];
    uint64_t totals[TOTALS];
    MUST(op_check(stage->handle, GLANCE, error, sizeof error, totals) == OK); /* with that, nobody waits */
    if (error[0] != '\0')
        wrong(__FILE__, __LINE__, error);
    MUST(stage->handle->header->counters[HALF_LOCAL][COUNT_DAMAGED] == 0);
    content_read(stage->handle, content);
    strcpy(before, scene_before);
    strcpy(after, scene_after);
    if (deaths_count > 1) { /* who joined has cleared what the first one left, or was killed in that */
        content_without(before, "v.1!");
        content_without(after, "v.1!");
        content_without(content, "v.1!");
    }
    if (scene->first != NULL && strstr(content, scene->first) == NULL)
        must_equal(content, before);
    if (scene->in_steps ? content_is_between(before, after, content) : strcmp(content, before) == 0)
        return;
    must_equal(content, after);
}

static bool has_messages(const char *content, const char *queue) {
    char word[40];
    snprintf(word, sizeof word, "%s=", queue);
    const char *at = strstr(content, word);
    return at != NULL && at[strlen(word)] > ' ';
}

static bool is_named(const struct ready *ready, const char *queue) {
    for (size_t at = 0; at < ready->used; at += 1 + (size_t)ready->names[at])
        if ((size_t)ready->names[at] == strlen(queue) && memcmp(ready->names + at + 1, queue, strlen(queue)) == 0)
            return true;
    return false;
}

/* The survivor, which may not have been rung, looks by itself. */
static void look(struct stage *stage, const char *content) {
    struct handle *handle = stage->handle;
    struct ready ready;
    if (handle->header->rebuilds != stage->rebuilds) {
        wait_for(handle, SURVIVOR_WAITS);
        wait_for(handle, "s.1!");
    }
    nobody_does_housekeeping(handle);
    MUST(op_repoll(handle, WAIT, 0) == OK);
    MUST(collect(handle, 0, false, &ready) == OK && !ready.left);
    MUST(!has_messages(content, SURVIVOR_WAITS) || is_named(&ready, SURVIVOR_WAITS));
    MUST(!has_messages(content, "s.1!") || is_named(&ready, "s.1!"));
    check(handle);
}

/* Housekeeping frees what belonged to the dead, and nothing else. */
static void reap(struct stage *stage, char content[CONTENT]) {
    char seen[CONTENT];
    stage->handle->header->next_look = 0;
    MUST(op_repoll(stage->handle, WAIT, 0) == OK);
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        MUST(!stage->handle->slots[slot].published || slot == stage->handle->private->slot);
    check(stage->handle);
    content_without(content, "v.1!");
    content_without(content, "d.1!");
    content_read(stage->handle, seen);
    must_equal(seen, content);
}

/* The segment can be used; and with all taken out, all memory is free. */
static void take_all_out(struct stage *stage) {
    static const char *const channels[] = {"a", "b", "n", LONG_NAME};
    struct handle *handle = stage->handle;
    char content[CONTENT];
    struct wakeups wakeups;
    struct push push = push_of("probe", "", NULL, MEDIUM, 9);
    push.loan = stage->loan;
    wakeups_open(&wakeups);
    MUST(op_push(handle, WAIT, &push, &wakeups) == OK);
    content_read(handle, content);
    MUST(strstr(content, "probe=77") != NULL);
    take(handle, "probe");
    for (uint32_t i = 0; i < sizeof channels / sizeof channels[0]; i++)
        while (act_pop(handle, channels[i], NO_LOOP) == OK)
            ;
    for (uint32_t i = 0; i < 3; i++) /* a drain stops at a large message */
        MUST(act_drain(handle, "s.1!", NO_LOOP) == OK);
    for (uint32_t loan = 0; loan < LOANS; loan++)
        MUST(op_loan_release(handle, WAIT, loan) == OK);
    const uint64_t *totals = check(handle);
    MUST(totals[TOTAL_MESSAGE_BLOCKS] - totals[TOTAL_MESSAGE_BLOCKS_FREE] < 30);
    MUST(op_flush(handle, WAIT) == OK);
    MUST(segment_leave(handle) == OK && segment_join(handle) == OK);
    totals = check(handle);
    MUST(totals[TOTAL_CHANNELS] == 0 && totals[TOTAL_GROUPS] == 0 && totals[TOTAL_PAIRS] == 0 &&
         totals[TOTAL_MEMBERS] == 0);
    MUST(totals[TOTAL_MESSAGE_BLOCKS] == totals[TOTAL_MESSAGE_BLOCKS_FREE]);
    MUST(totals[TOTAL_GROUP_BLOCKS] == totals[TOTAL_GROUP_BLOCKS_FREE]);
}

static void verify(struct stage *stage) {
    char content[CONTENT];
    go_on(stage, content);
    look(stage, content);
    reap(stage, content);
    take_all_out(stage);
}

/* The scene with deaths after so many changes: the first one in the act, each further one in the repair that the one
 * before has made necessary. The changes that the last victim came to, or NEVER if it was killed before its end. */
static uint32_t play(const uint32_t *changes, uint32_t number) {
    struct stage stage;
    raise_the_curtain(&stage);
    kill_in_act(&stage, changes[0], false);
    for (uint32_t i = 1; i < number; i++)
        kill_in_repair(&stage, changes[i]);
    uint32_t all = report->is_done ? report->changes : NEVER;
    if (report->is_done && scene->before != NULL)
        MUST(report->status == (number == 1 ? scene->result : OK));
    verify(&stage);
    drop_the_curtain(&stage);
    return all;
}

/* The content when the victim dies before or after its act. */
static void play_in_peace(uint32_t changes, const char *expected, char content[CONTENT]) {
    struct stage stage;
    raise_the_curtain(&stage);
    kill_in_act(&stage, changes, true);
    check(stage.handle);
    content_read(stage.handle, content);
    if (expected != NULL)
        must_equal(content, expected);
    drop_the_curtain(&stage);
}

/* What comes before and after, and whether the instrument sees each store. */
static uint32_t rehearse(void) {
    play_in_peace(0, scene->before, scene_before);
    play_in_peace(NEVER, scene->after != NULL ? scene->after : scene->before, scene_after);
    MUST(report->is_done && !report->missed_a_store);
    MUST(scene->before != NULL ? report->status == scene->result : report->status != DAMAGED);
    MUST(report->changes >= scene->at_least);
    return report->changes;
}

static void perform(void) {
    uint64_t kills_before = kills, begin = now_ns();
    uint32_t all = rehearse(), repairs = 0;
    for (uint32_t changes = 0; changes <= all; changes++)
        if (all <= MANY || is_thorough || changes < MANY / 3 || all - changes < MANY / 3 || below(all) < MANY / 3)
            play(&changes, 1);
    for (uint64_t i = 0; i < steps; i++) {
        uint32_t changes[3] = {below(all + 1), 0, 0};
        while (play(changes, 2) == NEVER)
            changes[1] += is_thorough || changes[1] < MANY / 3 ? 1 : 1 + below(20);
        repairs += changes[1];
        /* and a second repair, killed in some place, too */
        changes[1] = below(changes[1] + 1);
        changes[2] = below(changes[1] + 1);
        play(changes, 3);
    }
    printf("%-60s %5u changes, %6llu kills (%u in repairs), %4llu ms\n", scene->name, all,
           (unsigned long long)(kills - kills_before), repairs, (unsigned long long)((now_ns() - begin) / 1000000));
    fflush(stdout);
}

/* The maker of a segment is killed after so many changes: the next process finds it unfinished, or whole. */
static bool is_born(uint32_t changes) {
    const char *reason;
    struct handle handle = {.fd = -1};
    static struct heritage heritage = {.shards[5] = {{7, 8}, .turn = 4, .registration = 9, .is_known = true}};
    struct beginning beginning = {.message_bytes = 256 * KIB,
                                  .group_bytes = 64 * KIB,
                                  .prefix = "prefix",
                                  .project = "project",
                                  .machine = "machine",
                                  .seed = {1, 2},
                                  .is_successor = true,
                                  .heritage = &heritage};
    int fd = memfd_create("segment", MFD_CLOEXEC);
    *report = (struct report){.is_done = false};
    MUST(fd >= 0);
    pid_t pid = fork_child();
    if (pid == 0) {
        faults_arm(changes);
        report->status = segment_format(fd, fd, &beginning);
        (void)faults_disarm();
        report->is_done = true;
        (void)kill(getpid(), SIGKILL);
    }
    wait_for_death(pid);
    enum status status = segment_map(fd, fd, &handle, &reason);
    MUST(status == OK || (status == DAMAGED && reason != NULL && !report->is_done));
    if (status == OK) {
        struct position position;
        MUST(position_read(&handle.shards[5], &position) && position.ms == 7 && handle.shards[5].turn == 5);
        MUST(segment_join(&handle) == OK);
        put(&handle, "a", "", 1, MEDIUM, LONG);
        check(&handle);
        segment_unmap(&handle);
    }
    close(fd);
    return report->is_done;
}

static void perform_birth(void) {
    static const struct scene birth = {.name = "birth"};
    uint32_t changes = 0;
    scene = &birth;
    while (!is_born(changes))
        changes++;
    MUST(changes >= 15);
    printf("%-60s %5u changes\n", scene->name, changes);
}

static const struct {
    const char *name;
    const struct scene *scenes;
} tables[] = {
    {"messages", message_scenes}, {"groups", group_scenes},  {"waiting", waiting_scenes}, {"life", life_scenes},
    {"wrong", wrong_scenes},      {"chance", chance_scenes}, {"streams", stream_scenes},
};

int main(int argc, char **argv) {
    const char *what = argc > 3 ? argv[3] : "";
    begin(argc, argv, "kills");
    (void)signal(SIGABRT, say_where);
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(report != MAP_FAILED);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        for (scene = tables[i].scenes; scene->name != NULL; scene++) {
            is_thorough = strcmp(what, scene->name) == 0;
            if (!is_thorough && strcmp(what, tables[i].name) != 0)
                continue;
            for (uint32_t time = 0; time < (scene->before == NULL ? SITUATIONS : 1); time++) {
                chance_situation(seed * SITUATIONS + time);
                perform();
            }
        }
    if (strcmp(what, "life") == 0)
        perform_birth();
    MUST(kills > 0); /* there is something of that name */
    printf("%llu kills\n", (unsigned long long)kills);
    return 0;
}
