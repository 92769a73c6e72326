/* Stands in for the macOS libraries that engine/host/mac_calls.py calls, with the layouts of
 * Apple's headers and values that the tests script. It answers wrong calls as the system would. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

/* osfmk/mach/vm_statistics.h: struct vm_statistics64, revision 1 and the field that followed. */
struct vm_statistics64 {
    uint32_t free_count, active_count, inactive_count, wire_count;
    uint64_t zero_fill_count, reactivations, pageins, pageouts, faults, cow_faults, lookups, hits, purges;
    uint32_t purgeable_count, speculative_count;
    uint64_t decompressions, compressions, swapins, swapouts;
    uint32_t compressor_page_count, throttled_count, external_page_count, internal_page_count;
    uint64_t total_uncompressed_pages_in_compressor;
    uint64_t swapped_count;
};
_Static_assert(offsetof(struct vm_statistics64, purgeable_count) == 88, "purgeable");
_Static_assert(offsetof(struct vm_statistics64, swapouts) == 120, "swapouts");
_Static_assert(offsetof(struct vm_statistics64, compressor_page_count) == 128, "compressor");
_Static_assert(offsetof(struct vm_statistics64, swapped_count) == 38 * 4, "revision 1 is 38 words");

/* bsd/sys/resource.h: struct rusage_info_v4. */
struct rusage_info_v4 {
    uint8_t uuid[16];
    uint64_t user_time, system_time, pkg_idle_wkups, interrupt_wkups, pageins, wired_size, resident_size;
    uint64_t phys_footprint;
    uint64_t proc_start_abstime, proc_exit_abstime, child[6], diskio_bytesread, diskio_byteswritten;
    uint64_t cpu_time_qos[7], billed_system_time, serviced_system_time, logical_writes;
    uint64_t lifetime_max_phys_footprint, instructions, cycles, billed_energy, serviced_energy;
    uint64_t interval_max_phys_footprint, runnable_time;
};
_Static_assert(sizeof(struct rusage_info_v4) == 296, "rusage v4");
_Static_assert(offsetof(struct rusage_info_v4, phys_footprint) == 72, "footprint");
_Static_assert(offsetof(struct rusage_info_v4, lifetime_max_phys_footprint) == 240, "lifetime");

enum { HOST_PORT = 0x1203, TOKEN = 7, ROOT_DOMAIN = 0x5a03, BOOLEAN_TYPE = 21, STRING_TYPE = 7 };
enum { MAX_SYSCTLS = 16 };

static struct { char name[64]; unsigned char value[64]; size_t size; } sysctls[MAX_SYSCTLS];
static struct vm_statistics64 vm;
static uint32_t vm_words_known;
static int vm_result, rusage_result;
static uint64_t footprint, footprint_peak;
static uint32_t notify_result, notify_state_result;
static uint64_t notify_state;
static int registered;
static int lid; /* -1 no property, 0 open, 1 closed, 2 a value that is no boolean */
static uint32_t display_id, display_asleep;
static int hosts_taken, objects_alive;
static char key_text[64];
static int open_lid, closed_lid, odd_lid;

void script_reset(void) {
    memset(sysctls, 0, sizeof sysctls);
    memset(&vm, 0, sizeof vm);
    vm_words_known = sizeof vm / 4;
    vm_result = rusage_result = registered = hosts_taken = objects_alive = 0;
    footprint = footprint_peak = notify_state = 0;
    notify_result = notify_state_result = display_id = display_asleep = 0;
    lid = -1;
}

void script_sysctl(const char *name, const void *value, size_t size) {
    for (int i = 0; i < MAX_SYSCTLS; i++) {
        if (sysctls[i].name[0] == 0 || strcmp(sysctls[i].name, name) == 0) {
            strcpy(sysctls[i].name, name);
            memcpy(sysctls[i].value, value, size);
            sysctls[i].size = size;
            return;
        }
    }
}

/* As vm_stat counts: free without the speculative pages, which the kernel adds to free_count. */
void script_pages(uint32_t unused, uint32_t active, uint32_t inactive, uint32_t speculative,
                  uint32_t wired, uint32_t compressor, uint32_t external, uint32_t purgeable) {
    vm.free_count = unused + speculative;
    vm.active_count = active;
    vm.inactive_count = inactive;
    vm.speculative_count = speculative;
    vm.wire_count = wired;
    vm.compressor_page_count = compressor;
    vm.external_page_count = external;
    vm.purgeable_count = purgeable;
    vm.pageins = vm.pageouts = 999999;
    vm.throttled_count = vm.internal_page_count = 888888;
}

void script_swaps(uint64_t in, uint64_t out) { vm.swapins = in; vm.swapouts = out; }
void script_vm_answer(int result, uint32_t words) { vm_result = result; vm_words_known = words; }
void script_footprint(int result, uint64_t now, uint64_t peak) {
    rusage_result = result; footprint = now; footprint_peak = peak;
}
void script_thermal(uint32_t registering, uint32_t reading, uint64_t state) {
    notify_result = registering; notify_state_result = reading; notify_state = state;
}
void script_lid(int state) { lid = state; }
void script_display(uint32_t id, uint32_t asleep) { display_id = id; display_asleep = asleep; }
int count_hosts_taken(void) { return hosts_taken; }
int count_registered(void) { return registered; }
int count_objects_alive(void) { return objects_alive; }

int sysctlbyname(const char *name, void *old, size_t *old_size, void *new, size_t new_size) {
    if (new != NULL || new_size != 0) { errno = EPERM; return -1; }
    for (int i = 0; i < MAX_SYSCTLS; i++) {
        if (strcmp(sysctls[i].name, name) != 0) continue;
        if (*old_size < sysctls[i].size) { errno = ENOMEM; return -1; }
        memcpy(old, sysctls[i].value, sysctls[i].size);
        *old_size = sysctls[i].size;
        return 0;
    }
    errno = ENOENT;
    return -1;
}

uint32_t mach_host_self(void) { hosts_taken++; return HOST_PORT; }

int host_statistics64(uint32_t host, int flavor, void *out, uint32_t *words) {
    if (host != HOST_PORT || flavor != 4) return 4; /* KERN_INVALID_ARGUMENT */
    if (vm_result != 0) return vm_result;
    if (*words > vm_words_known) *words = vm_words_known;
    memcpy(out, &vm, *words * 4);
    return 0;
}

int proc_pid_rusage(int pid, int flavor, void *out) {
    struct rusage_info_v4 info;
    if (rusage_result != 0 || pid != getpid() || flavor != 4) { errno = EPERM; return -1; }
    memset(&info, 0x55, sizeof info);
    info.phys_footprint = footprint;
    info.lifetime_max_phys_footprint = footprint_peak;
    memcpy(out, &info, sizeof info);
    return 0;
}

uint32_t notify_register_check(const char *key, int *token) {
    if (strcmp(key, "com.apple.system.thermalpressurelevel") != 0) return 1;
    if (notify_result != 0) return notify_result;
    registered++;
    *token = TOKEN;
    return 0;
}

uint32_t notify_get_state(int token, uint64_t *state) {
    if (token != TOKEN || registered == 0) return 2; /* NOTIFY_STATUS_INVALID_TOKEN */
    if (notify_state_result != 0) return notify_state_result;
    *state = notify_state;
    return 0;
}

uint32_t notify_cancel(int token) {
    if (token != TOKEN || registered == 0) return 2;
    registered--;
    return 0;
}

/* A key and a dictionary stay alive as long as the program; a property's value must be released. */
const void *CFStringCreateWithCString(const void *allocator, const char *text, uint32_t encoding) {
    if (allocator != NULL || encoding != 0x08000100) return NULL;
    strcpy(key_text, text);
    return key_text;
}

const void *IOServiceMatching(const char *name) {
    return strcmp(name, "IOPMrootDomain") == 0 ? &lid : NULL;
}

uint32_t IOServiceGetMatchingService(uint32_t port, const void *matching) {
    return port == 0 && matching == &lid ? ROOT_DOMAIN : 0;
}

const void *IORegistryEntryCreateCFProperty(uint32_t entry, const void *key, const void *allocator,
                                            uint32_t options) {
    if (entry != ROOT_DOMAIN || key != key_text || allocator != NULL || options != 0) return NULL;
    if (strcmp(key_text, "AppleClamshellState") != 0 || lid < 0) return NULL;
    objects_alive++;
    return lid == 0 ? &open_lid : lid == 1 ? &closed_lid : &odd_lid;
}

size_t CFGetTypeID(const void *object) { return object == &odd_lid ? STRING_TYPE : BOOLEAN_TYPE; }
size_t CFBooleanGetTypeID(void) { return BOOLEAN_TYPE; }
unsigned char CFBooleanGetValue(const void *object) {
    if (object == &odd_lid) __builtin_trap();
    return object == &closed_lid;
}
void CFRelease(const void *object) { (void)object; objects_alive--; }

uint32_t CGMainDisplayID(void) { return display_id; }
uint32_t CGDisplayIsAsleep(uint32_t id) { return id == display_id ? display_asleep : 1; }
