// The module fastdet._ops_cuda, whose import registers the CUDA kernels of torch.ops.fastdet.
#include <Python.h>

static PyModuleDef module_definition = {PyModuleDef_HEAD_INIT, "_ops_cuda", "Registers torch.ops.fastdet for CUDA.", -1,
                                        nullptr};

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__ops_cuda(void) {
  return PyModule_Create(&module_definition);
}
