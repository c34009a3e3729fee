// A library in C++: operator new of its run time, which asks the C library through slots of its own.

#include <atomic>
#include <cstddef>
#include <new>
#include <thread>

static std::atomic<char *> last;

// What is a thread's own, and is destroyed at its end: with a last block.
struct Own {
    char *block = new char[64];
    ~Own()
    {
        delete[] block;
        last = new char[5120];
    }
};
static thread_local Own own;

extern "C" {
void *end_a_thread()
{
    std::thread([] { own.block[0] = 1; }).join();
    return last.exchange(nullptr);
}
void *take(std::size_t size) { return ::operator new(size); }
void *take_array(std::size_t size) { return new char[size]; }
void *take_aligned(std::size_t size) { return ::operator new(size, std::align_val_t(64)); }
void give_back(void *block) { ::operator delete(block); }
void give_back_array(void *block) { delete[] static_cast<char *>(block); }
void give_back_aligned(void *block) { ::operator delete(block, std::align_val_t(64)); }
}
