// The CUDA driver's interface (libcuda.so.1) over the shim: what a program that loads the driver finds here runs on the CPU.
//
// Device memory is memory of the process, one allocation each, filled with ones (NaN), with 256 bytes before and behind that nobody may
// touch: they are looked at when memory is freed and when the context is synchronized; under ASan each access is. Addresses and ranges of
// copies are checked. Work of a stream is done at once; while the stream is captured it goes to the graph.
//
// Environment: GRAFT_FAKE_CUDA_MEMORY (bytes of a device, 8 GiB), _DEVICES (1), _CAPABILITY (80), _BRAND (before its name), _DRIVER (12080),
// _SEED (order of threads), _FAIL (`alloc:3`: the third allocation; `launch:5:719`: the fifth launch, with that error, from then on every call, as of a lost device).
#include "cuda_shim.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>

namespace shim {
void seed(uint64_t with);
}

#define API extern "C" __attribute__((visibility("default"))) int

namespace {

typedef unsigned long long Address;
constexpr int OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_IMAGE = 200,
              INVALID_CONTEXT = 201, NO_BINARY = 209, INVALID_HANDLE = 400, NOT_FOUND = 500, OUT_OF_RESOURCES = 701, CAPTURE_UNSUPPORTED = 900,
              CAPTURE_INVALIDATED = 901, NOT_SUPPORTED = 801;
constexpr size_t ZONE = 256;
constexpr unsigned char GUARD = 0xa5;

struct Error {
    int code;
    const char *name, *text;
};
const Error ERRORS[] = {
    {OK, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NO_BINARY, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
};

long long setting(const char *name, long long otherwise) {
    const char *value = getenv((std::string("GRAFT_FAKE_CUDA_") + name).c_str());
    return value ? strtoll(value, nullptr, 0) : otherwise;
}

typedef std::vector<std::function<int()>> Graph;

struct Stream {
    std::unique_ptr<Graph> capture;
};

struct Module {
    std::set<std::string> names;
};

struct Memory {
    size_t bytes;
    int device;
};

struct Context {
    int device;
};

std::recursive_mutex lock;
bool initialized;
int lost;  // What every call answers once the device is lost.
std::map<Address, Memory> memory;
std::map<int, size_t> used;
std::map<int, Context> contexts;
std::set<Stream *> streams;
std::set<void *> host;
long long allocations, launches;
thread_local Context *current;

int devices() { return (int)setting("DEVICES", 1); }
size_t total() { return (size_t)setting("MEMORY", 8ll << 30); }

// Whether this is the call that GRAFT_FAKE_CUDA_FAIL names; `code` becomes the error that it asks for.
bool fails(const char *what, long long count, int &code) {
    const char *fail = getenv("GRAFT_FAKE_CUDA_FAIL");
    size_t len = strlen(what);
    if (!fail || strncmp(fail, what, len) || fail[len] != ':') return false;
    char *end;
    if (strtoll(fail + len + 1, &end, 10) != count) return false;
    if (*end == ':') code = atoi(end + 1);
    return true;
}

int ready() { return !initialized ? NOT_INITIALIZED : lost ? lost : !current ? INVALID_CONTEXT : OK; }

#define ENTER \
    std::lock_guard<std::recursive_mutex> guard(lock); \
    if (int e = ready()) return e

// Under ASan nobody may touch the zones at all.
#ifdef __SANITIZE_ADDRESS__
void forbid(void *p, size_t bytes) { __asan_poison_memory_region(p, bytes); }
void allow(void *p, size_t bytes) { __asan_unpoison_memory_region(p, bytes); }
void check_zones(Address, const Memory &) {}
#else
void forbid(void *, size_t) {}
void allow(void *, size_t) {}
void check_zones(Address at, const Memory &m) {
    for (size_t i = 0; i < ZONE; i++)
        if (((unsigned char *)at)[-1 - (long)i] != GUARD || ((unsigned char *)at)[m.bytes + i] != GUARD)
            shim::die("something was written outside of an allocation of " + std::to_string(m.bytes) + " bytes");
}
#endif

void check_all() {
    for (auto &[at, m] : memory) check_zones(at, m);
}

// Ends the process unless all of this is device memory: a program that is right never gets here.
void check_range(Address at, size_t bytes, const char *what) {
    auto next = memory.upper_bound(at);
    if (next != memory.begin()) {
        auto &[start, m] = *std::prev(next);
        if (at - start <= m.bytes && bytes <= m.bytes - (at - start)) return;
    }
    shim::die(std::string(what) + ": " + std::to_string(bytes) + " bytes are not in device memory");
}

int allocate(Address *out, size_t bytes) {
    if (!out || !bytes) return INVALID_VALUE;
    int code = OUT_OF_MEMORY;
    if (fails("alloc", ++allocations, code)) return code;
    size_t &here = used[current->device];
    if (bytes > total() - here) return OUT_OF_MEMORY;
    void *p;
    if (posix_memalign(&p, 256, bytes + 2 * ZONE)) return OUT_OF_MEMORY;
    memset(p, GUARD, ZONE);
    memset((char *)p + ZONE, 255, bytes);
    memset((char *)p + ZONE + bytes, GUARD, ZONE);
    forbid(p, ZONE);
    forbid((char *)p + ZONE + bytes, ZONE);
    *out = (Address)p + ZONE;
    memory[*out] = Memory{bytes, current->device};
    here += bytes;
    return OK;
}

int release(Address at) {
    if (!at) return OK;
    auto found = memory.find(at);
    if (found == memory.end()) return INVALID_VALUE;
    check_zones(at, found->second);
    used[found->second.device] -= found->second.bytes;
    allow((char *)at - ZONE, found->second.bytes + 2 * ZONE);
    memory.erase(found);
    free((char *)at - ZONE);
    return OK;
}

// Does it, or leaves it to the graph.
int submit(void *stream, std::function<int()> work) {
    Stream *s = (Stream *)stream;
    // 0, 1 and 2 are the default streams.
    if ((uintptr_t)stream > 2) {
        if (!streams.count(s)) return INVALID_HANDLE;
        if (s->capture) {
            s->capture->push_back(std::move(work));
            return OK;
        }
    }
    return work();
}

bool capturing() {
    for (Stream *s : streams)
        if (s->capture) return true;
    return false;
}

int run(const shim::Kernel &k, shim::Dim grid, shim::Dim block, void *const *args) {
    int code = 719;
    if (fails("launch", ++launches, code)) return lost = code;
    if (memory.empty()) shim::die(k.name + ": a launch without any device memory");
    shim::launch(k, grid, block, args);
    return OK;
}

}  // namespace

// ---- Start, errors, devices

API cuInit(unsigned) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (devices() < 1) return NO_DEVICE;
    if (!initialized) shim::seed((uint64_t)setting("SEED", 1));
    initialized = true;
    return OK;
}
API cuDriverGetVersion(int *version) {
    *version = (int)setting("DRIVER", 12080);
    return OK;
}
API cuGetErrorName(int code, const char **name) {
    for (const Error &e : ERRORS)
        if (e.code == code) return *name = e.name, OK;
    *name = nullptr;
    return INVALID_VALUE;
}
API cuGetErrorString(int code, const char **text) {
    for (const Error &e : ERRORS)
        if (e.code == code) return *text = e.text, OK;
    *text = nullptr;
    return INVALID_VALUE;
}
API cuDeviceGetCount(int *count) {
    if (!initialized) return NOT_INITIALIZED;
    *count = devices();
    return OK;
}
API cuDeviceGet(int *device, int ordinal) {
    if (!initialized) return NOT_INITIALIZED;
    if (ordinal < 0 || ordinal >= devices()) return INVALID_DEVICE;
    *device = ordinal;
    return OK;
}
API cuDeviceGetName(char *name, int len, int device) {
    const char *brand = getenv("GRAFT_FAKE_CUDA_BRAND");
    bool branded = brand && *brand;
    snprintf(name, (size_t)len, "%s%sCPU as a CUDA device %d", branded ? brand : "", branded ? " " : "", device);
    return OK;
}
API cuDeviceGetUuid(unsigned char *uuid, int device) {
    memset(uuid, device, 16);
    return OK;
}
API cuDeviceGetUuid_v2(unsigned char *uuid, int device) { return cuDeviceGetUuid(uuid, device); }
API cuDeviceTotalMem_v2(size_t *bytes, int) {
    *bytes = total();
    return OK;
}
API cuDeviceGetAttribute(int *value, int attribute, int) {
    int capability = (int)setting("CAPABILITY", 80);
    // By the numbers of CUdevice_attribute: threads and sizes of a block, of a grid, shared memory, warp, registers, clocks, multiprocessors,
    // bus width, second cache; memory pools (115) there are none.
    static const std::map<int, int> values = {
        {1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 0x7fffffff}, {6, 65535}, {7, 65535}, {8, 49152}, {10, 32}, {12, 65536}, {13, 1000000}, {16, 8},
        {31, 1}, {36, 5000000}, {37, 128}, {38, 4 << 20}, {39, 2048}, {41, 1}, {81, 49152}, {97, 49152},
    };
    if (attribute == 75)
        *value = capability / 10;
    else if (attribute == 76)
        *value = capability % 10;
    else {
        auto found = values.find(attribute);
        *value = found == values.end() ? 0 : found->second;
    }
    return OK;
}

// ---- Contexts

API cuDevicePrimaryCtxRetain(void **context, int device) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (!initialized) return NOT_INITIALIZED;
    if (device < 0 || device >= devices()) return INVALID_DEVICE;
    *context = &contexts.emplace(device, Context{device}).first->second;
    return OK;
}
API cuDevicePrimaryCtxRelease_v2(int) { return OK; }
API cuCtxSetCurrent(void *context) {
    current = (Context *)context;
    return OK;
}
API cuCtxGetCurrent(void **context) {
    *context = current;
    return OK;
}
API cuCtxGetDevice(int *device) {
    if (!current) return INVALID_CONTEXT;
    *device = current->device;
    return OK;
}
API cuCtxPushCurrent_v2(void *context) { return cuCtxSetCurrent(context); }
API cuCtxPopCurrent_v2(void **context) {
    if (context) *context = current;
    current = nullptr;
    return OK;
}
API cuCtxSetFlags(unsigned) { return OK; }
API cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    *least = *greatest = 0;
    return OK;
}
API cuCtxSynchronize() {
    ENTER;
    if (capturing()) return CAPTURE_UNSUPPORTED;
    check_all();
    return OK;
}

// ---- Memory

API cuMemGetInfo_v2(size_t *free_bytes, size_t *all) {
    ENTER;
    *all = total();
    *free_bytes = *all - used[current->device];
    return OK;
}
API cuMemAlloc_v2(Address *out, size_t bytes) {
    ENTER;
    return allocate(out, bytes);
}
API cuMemFree_v2(Address at) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return release(at);
}
API cuMemAllocAsync(Address *out, size_t bytes, void *) {
    ENTER;
    return capturing() ? CAPTURE_UNSUPPORTED : allocate(out, bytes);
}
API cuMemFreeAsync(Address at, void *) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return release(at);
}
API cuMemHostAlloc(void **out, size_t bytes, unsigned) {
    ENTER;
    int code = OUT_OF_MEMORY;
    if (fails("host", (long long)host.size() + 1, code)) return code;
    if (!bytes || posix_memalign(out, 4096, bytes)) return OUT_OF_MEMORY;
    host.insert(*out);
    return OK;
}
API cuMemFreeHost(void *p) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (!host.erase(p)) return INVALID_VALUE;
    free(p);
    return OK;
}
API cuMemHostRegister_v2(void *, size_t, unsigned) { return OK; }
API cuMemHostUnregister(void *) { return OK; }
API cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *stream) {
    ENTER;
    check_range(to, bytes, "a copy to the device");
    return submit(stream, [=] { return memcpy((void *)to, from, bytes), OK; });
}
API cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *stream) {
    ENTER;
    check_range(from, bytes, "a copy from the device");
    return submit(stream, [=] { return memcpy(to, (void *)from, bytes), OK; });
}
API cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *stream) {
    ENTER;
    check_range(to, bytes, "a copy on the device");
    check_range(from, bytes, "a copy on the device");
    if (to < from + bytes && from < to + bytes && bytes) shim::die("a copy on the device onto itself");
    return submit(stream, [=] { return memcpy((void *)to, (void *)from, bytes), OK; });
}
API cuMemcpyHtoD_v2(Address to, const void *from, size_t bytes) {
    ENTER;
    return capturing() ? CAPTURE_UNSUPPORTED : cuMemcpyHtoDAsync_v2(to, from, bytes, nullptr);
}
API cuMemcpyDtoH_v2(void *to, Address from, size_t bytes) {
    ENTER;
    return capturing() ? CAPTURE_UNSUPPORTED : cuMemcpyDtoHAsync_v2(to, from, bytes, nullptr);
}
API cuMemcpyDtoD_v2(Address to, Address from, size_t bytes) { return cuMemcpyDtoDAsync_v2(to, from, bytes, nullptr); }
API cuMemcpyPeerAsync(Address to, void *, Address from, void *, size_t bytes, void *stream) {
    return cuMemcpyDtoDAsync_v2(to, from, bytes, stream);
}
API cuMemsetD8Async(Address at, unsigned char value, size_t n, void *stream) {
    ENTER;
    check_range(at, n, "a fill");
    return submit(stream, [=] { return memset((void *)at, value, n), OK; });
}
API cuMemsetD8_v2(Address at, unsigned char value, size_t n) { return cuMemsetD8Async(at, value, n, nullptr); }
API cuMemsetD32Async(Address at, unsigned value, size_t n, void *stream) {
    ENTER;
    check_range(at, n * 4, "a fill");
    return submit(stream, [=] {
        for (size_t i = 0; i < n; i++) ((unsigned *)at)[i] = value;
        return OK;
    });
}
API cuMemsetD32_v2(Address at, unsigned value, size_t n) { return cuMemsetD32Async(at, value, n, nullptr); }
API cuPointerGetAttribute(void *out, int attribute, Address at) {
    // Only what kind of memory it is: 2, the device's.
    if (attribute != 2 || !memory.count(at)) return INVALID_VALUE;
    *(unsigned *)out = 2;
    return OK;
}

// ---- Streams, events, graphs

API cuStreamCreate(void **stream, unsigned) {
    ENTER;
    Stream *s = new Stream;
    streams.insert(s);
    *stream = s;
    return OK;
}
API cuStreamCreateWithPriority(void **stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }
API cuStreamDestroy_v2(void *stream) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    if (!streams.erase((Stream *)stream)) return INVALID_HANDLE;
    delete (Stream *)stream;
    return OK;
}
API cuStreamSynchronize(void *stream) {
    ENTER;
    if (streams.count((Stream *)stream) && ((Stream *)stream)->capture) return CAPTURE_UNSUPPORTED;
    check_all();
    return OK;
}
API cuStreamQuery(void *) { return OK; }
API cuStreamWaitEvent(void *, void *, unsigned) { return ready(); }
API cuStreamBeginCapture_v2(void *stream, int) {
    ENTER;
    if (!streams.count((Stream *)stream)) return INVALID_HANDLE;
    ((Stream *)stream)->capture = std::make_unique<Graph>();
    return OK;
}
API cuStreamEndCapture(void *stream, void **graph) {
    ENTER;
    if (!streams.count((Stream *)stream)) return INVALID_HANDLE;
    if (!((Stream *)stream)->capture) return INVALID_VALUE;
    *graph = ((Stream *)stream)->capture.release();
    return OK;
}
API cuStreamIsCapturing(void *stream, int *status) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    *status = streams.count((Stream *)stream) && ((Stream *)stream)->capture ? 1 : 0;
    return OK;
}
API cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long) {
    ENTER;
    *exec = new Graph(*(Graph *)graph);
    return OK;
}
API cuGraphInstantiate_v2(void **exec, void *graph, void **, char *, size_t) { return cuGraphInstantiateWithFlags(exec, graph, 0); }
API cuGraphUpload(void *, void *) { return ready(); }
API cuGraphGetNodes(void *graph, void *, size_t *n) {
    *n = ((Graph *)graph)->size();
    return OK;
}
// Only its own nodes change, and it has none to hand out: the new graph takes the old one's place.
API cuGraphExecUpdate_v2(void *exec, void *graph, void *) {
    *(Graph *)exec = *(Graph *)graph;
    return OK;
}
API cuGraphLaunch(void *exec, void *stream) {
    ENTER;
    Graph *graph = (Graph *)exec;
    return submit(stream, [=] {
        for (auto &work : *graph)
            if (int e = work()) return e;
        return (int)OK;
    });
}
API cuGraphExecDestroy(void *exec) {
    delete (Graph *)exec;
    return OK;
}
API cuGraphDestroy(void *graph) {
    delete (Graph *)graph;
    return OK;
}
API cuEventCreate(void **event, unsigned) {
    ENTER;
    *event = new int;
    return OK;
}
API cuEventRecord(void *, void *) { return ready(); }
API cuEventQuery(void *) { return ready(); }
API cuEventSynchronize(void *) { return ready(); }
API cuEventElapsedTime(float *ms, void *, void *) {
    *ms = 1;
    return ready();
}
API cuEventElapsedTime_v2(float *ms, void *a, void *b) { return cuEventElapsedTime(ms, a, b); }
API cuEventDestroy_v2(void *event) {
    delete (int *)event;
    return OK;
}
API cuLaunchHostFunc(void *stream, void (*f)(void *), void *data) {
    ENTER;
    return submit(stream, [=] { return f(data), OK; });
}

// ---- Modules and launches

// PTX text: only what it says that it has counts.
API cuModuleLoadData(void **module, const void *image) {
    ENTER;
    std::string text = (const char *)image;
    size_t target = text.find(".target sm_");
    if (text.find(".version") == std::string::npos || target == std::string::npos) return INVALID_IMAGE;
    if (atoi(text.c_str() + target + 11) > setting("CAPABILITY", 80)) return NO_BINARY;
    auto m = std::make_unique<Module>();
    for (size_t at = 0; (at = text.find(".entry ", at)) != std::string::npos;) {
        at += 7;
        m->names.insert(text.substr(at, text.find_first_of("( \n", at) - at));
    }
    *module = m.release();
    return OK;
}
API cuModuleLoadDataEx(void **module, const void *image, unsigned, int *, void **) { return cuModuleLoadData(module, image); }
API cuModuleUnload(void *module) {
    delete (Module *)module;
    return OK;
}
API cuModuleGetFunction(void **function, void *module, const char *name) {
    ENTER;
    if (!((Module *)module)->names.count(name)) return NOT_FOUND;
    for (const shim::Kernel &k : shim::Kernel::all()) {
        if (k.name == name) {
            *function = (void *)&k;
            return OK;
        }
    }
    return NOT_FOUND;
}
API cuFuncSetAttribute(void *, int attribute, int value) {
    // More dynamic shared memory: no kernel has any.
    return attribute == 8 && value > 0 ? INVALID_VALUE : OK;
}
API cuFuncGetAttribute(int *value, int attribute, void *function) {
    *value = attribute == 0 ? ((const shim::Kernel *)function)->threads : 0;
    return OK;
}
API cuFuncSetCacheConfig(void *, int) { return OK; }
API cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *function, int, size_t) {
    *blocks = 1024 / ((const shim::Kernel *)function)->threads;
    return OK;
}
API cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *stream,
                   void **args, void **extra) {
    ENTER;
    const shim::Kernel &k = *(const shim::Kernel *)function;
    if (extra || !gx || !gy || !gz || !bx || !by || !bz || gx > 0x7fffffff || gy > 65535 || gz > 65535) return INVALID_VALUE;
    if ((size_t)bx * by * bz > (size_t)k.threads) return OUT_OF_RESOURCES;
    if (shared) return INVALID_VALUE;
    // Arguments are those of now, also when a graph launches it later.
    auto values = std::make_shared<std::vector<std::vector<uint64_t>>>();
    for (size_t i = 0; i < k.sizes.size(); i++) {
        values->emplace_back((k.sizes[i] + 7) / 8);
        memcpy(values->back().data(), args[i], k.sizes[i]);
    }
    return submit(stream, [=, &k] {
        std::vector<void *> pointers;
        for (auto &value : *values) pointers.push_back(value.data());
        return run(k, shim::Dim{gx, gy, gz}, shim::Dim{bx, by, bz}, pointers.data());
    });
}

// Names of all kernels, separated by spaces, for tests.
extern "C" __attribute__((visibility("default"))) const char *graft_fake_cuda_kernels() {
    static std::string names;
    if (names.empty())
        for (const shim::Kernel &k : shim::Kernel::all()) names += k.name + " ";
    return names.c_str();
}
