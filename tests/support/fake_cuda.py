"""A stand-in for ``cuda.bindings.runtime``: device memory is numpy, streams do nothing until they are waited for.

So whoever reads too early, or frees what is still to be copied, sees the wrong values, as on a GPU. The default stream
and those that do not block know nothing of each other: its work is done as late as a GPU may do it, which is after what
another stream was given later and was waited for.
"""

import ctypes
from enum import IntEnum
from types import SimpleNamespace

import numpy as np

DEFAULT = 0  # stream


class Error(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorNoDevice = 100
    cudaErrorStreamCaptureInvalidated = 901


class MemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class FakeCuda:
    cudaError_t, cudaMemcpyKind = Error, MemcpyKind
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, name=b"Fake GPU", capability=(8, 9), room=1 << 30, devices=1):
        self._name, self._capability, self._room, self._devices = name, capability, room, devices
        self._memory, self._next, self.graphs = {}, 4096, {}
        self._streams, self._captures, self._broken = {DEFAULT: []}, {}, False
        self.calls = []  # what was asked for, in order

    def cudaGetDeviceCount(self):
        return (Error.cudaSuccess, self._devices) if self._devices else (Error.cudaErrorNoDevice, None)

    def cudaGetDeviceProperties(self, device):
        return Error.cudaSuccess, SimpleNamespace(name=self._name, major=self._capability[0], minor=self._capability[1])

    def cudaRuntimeGetVersion(self):
        return Error.cudaSuccess, 13000

    def cudaGetErrorString(self, error):
        return Error.cudaSuccess, error.name.encode()

    def cudaGetLastError(self):
        return (Error.cudaSuccess,)

    def cudaMalloc(self, size):
        self.calls.append("malloc")
        if self._captures:
            self._broken = True  # allocating is unsafe while a stream is captured
        if size > self._room:
            return Error.cudaErrorMemoryAllocation, None
        self._room -= size
        address, self._next = self._next, self._next + size + 512
        self._memory[address] = np.full(size, 0xFF, np.uint8)  # nans, until somebody writes
        return Error.cudaSuccess, address

    def cudaFree(self, address):
        self.calls.append("free")
        assert not self._captures, "freeing is unsafe while a stream is captured"
        assert not any(self._streams.values()), "somebody may still be using it"
        self._room += self._memory.pop(address).size
        return (Error.cudaSuccess,)

    @property
    def used(self):
        """Bytes that are allocated."""
        return sum(block.size for block in self._memory.values())

    def cudaMemset(self, address, value, size):
        return self.cudaMemsetAsync(address, value, size, DEFAULT)

    def cudaMemsetAsync(self, address, value, size, stream):
        def fill():
            self.at(address, size)[:] = value

        self.queue(stream, fill)
        return (Error.cudaSuccess,)

    def cudaStreamCreateWithFlags(self, flags):
        assert flags == 1, "the default stream would wait"
        stream = len(self._streams)
        self._streams[stream] = []
        return Error.cudaSuccess, stream

    def cudaMemcpyAsync(self, to, source, size, kind, stream):
        self.calls.append(kind.name)

        def copy():
            if kind is MemcpyKind.cudaMemcpyHostToDevice:
                self.at(to, size)[:] = np.frombuffer(ctypes.string_at(source, size), np.uint8)
            elif kind is MemcpyKind.cudaMemcpyDeviceToHost:
                ctypes.memmove(to, self.at(source, size).tobytes(), size)
            else:
                self.at(to, size)[:] = self.at(source, size)

        self.queue(stream, copy)
        return (Error.cudaSuccess,)

    def cudaStreamSynchronize(self, stream):
        if stream in self._captures:
            self._broken = True
            return (Error.cudaErrorStreamCaptureInvalidated,)
        for waiting in (stream, DEFAULT):
            for work in self._streams[waiting]:
                work()
            self._streams[waiting] = []
        return (Error.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream, mode):
        self._captures[stream], self._broken = [], False
        return (Error.cudaSuccess,)

    def cudaStreamEndCapture(self, stream):
        work = self._captures.pop(stream)
        return (
            (Error.cudaErrorStreamCaptureInvalidated, None) if self._broken else (Error.cudaSuccess, self._kept(work))
        )

    def _kept(self, work):
        self._next += 1
        self.graphs[self._next] = work
        return self._next

    def cudaGraphInstantiate(self, graph, flags):
        return Error.cudaSuccess, self._kept(tuple(self.graphs[graph]))

    def cudaGraphDestroy(self, graph):
        del self.graphs[graph]
        return (Error.cudaSuccess,)

    def cudaGraphExecDestroy(self, graph):
        assert not any(self._streams.values()), "it may still be running"
        return self.cudaGraphDestroy(graph)

    def cudaGraphLaunch(self, graph, stream):
        self.calls.append("launch")
        self._streams[stream] += self.graphs[graph]
        return (Error.cudaSuccess,)

    def queue(self, stream, work):
        """Something for a stream to do: what a runtime calls."""
        (self._captures.get(stream, self._streams[stream])).append(work)

    def break_capture(self):
        self._broken = True

    def at(self, address, size):
        """A view of device memory; nothing reaches beyond what was allocated."""
        for base, block in self._memory.items():
            if base <= address and address + size <= base + block.size:
                return block[address - base : address - base + size]
        raise AssertionError(f"{size} bytes at {address} are not allocated")
