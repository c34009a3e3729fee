// A library in C++: operator new of its run time, which asks the C library through slots of its own.

#include <cstddef>
#include <new>
#include <vector>

extern "C" {
void *take(std::size_t size) { return ::operator new(size); }
void *take_array(std::size_t size) { return new char[size]; }
void *take_aligned(std::size_t size) { return ::operator new(size, std::align_val_t(64)); }
void give_back(void *block) { ::operator delete(block); }
void give_back_array(void *block) { delete[] static_cast<char *>(block); }
void give_back_aligned(void *block) { ::operator delete(block, std::align_val_t(64)); }
}
