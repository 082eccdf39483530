import CGraft
import Foundation

/// A model that is loaded: its weights, its tokenizer, its chat template. Immutable; every task may use it, and its sessions and
/// adapters keep what they need of it.
public final class Model: Sendable {
    let handle: Handle
    /// Facts about the model.
    public let info: ModelInfo

    init(_ handle: Handle) throws {
        self.handle = handle
        info = try ModelInfo(handle)
    }

    /// Opens a GGUF file (of a split model the first one).
    ///
    /// The file is mapped, not copied: it must not be changed while the model is in use. Cancelling the task ends the work.
    ///
    /// - Throws: `GraftError` that names the file and what is wrong with it; `CancellationError`.
    public static func open(path: String, options: ModelOptions = ModelOptions()) async throws -> Model {
        try await open(options) { options, out, error in
            withText(path) { graft_model_open($0.data, $0.len, options, out, error) }
        }
    }

    /// Opens what a file descriptor reads from `offset` on: `length` bytes, or all up to the end. The descriptor may be closed afterwards.
    ///
    /// - Throws: as ``open(path:options:)``.
    public static func open(
        fileDescriptor: Int32, offset: UInt64 = 0, length: UInt64? = nil, options: ModelOptions = ModelOptions()
    ) async throws -> Model {
        try await open(options) { options, out, error in
            graft_model_open_fd(fileDescriptor, offset, length ?? 0, options, out, error)
        }
    }

    /// Opens the bytes of a GGUF file. They are not copied.
    ///
    /// - Throws: as ``open(path:options:)``.
    public static func open(memory: Data, options: ModelOptions = ModelOptions()) async throws -> Model {
        try await open(options) { options, out, error in
            // The bytes of an NSData stay where they are as long as it lives: until `release`.
            let bytes = memory as NSData
            let user = Unmanaged.passRetained(bytes).toOpaque()
            let release: @convention(c) (UnsafeMutableRawPointer?) -> Void = { Unmanaged<NSData>.fromOpaque($0!).release() }
            return graft_model_open_memory(bytes.bytes, bytes.length, release, user, options, out, error)
        }
    }

    private static func open(
        _ options: ModelOptions,
        _ call: @escaping @Sendable (UnsafePointer<graft_model_options>, Out<OpaquePointer>, Out<OpaquePointer>) -> graft_status
    ) async throws -> Model {
        try await Monitor.run(options.progress) { monitor in
            try Model(Handle(freedBy: graft_model_free) { out, error in
                options.withC(monitor) { call($0, out, error) }
            })
        }
    }

    /// Opens an adapter: the folder that PEFT's `save_pretrained` wrote, or a GGUF file. It fits this model only.
    ///
    /// - Throws: `GraftError` that names the file, the tensor or field, what was expected and what was found.
    public func openAdapter(path: String, options: AdapterOptions = AdapterOptions()) async throws -> Adapter {
        try await workQueue.result { [handle] in
            try Adapter(Handle(freedBy: graft_adapter_free) { out, error in
                withText(path) { path in
                    options.withC { graft_adapter_open(handle.pointer, path.data, path.len, $0, out, error) }
                }
            })
        }
    }

    /// Opens an adapter of which `adapter_config.json` and `adapter_model.safetensors` are in memory; both are copied.
    ///
    /// - Throws: as ``openAdapter(path:options:)``.
    public func openAdapter(config: String, tensors: Data, options: AdapterOptions = AdapterOptions()) async throws -> Adapter {
        try await workQueue.result { [handle] in
            try Adapter(Handle(freedBy: graft_adapter_free) { out, error in
                withText(config) { config in
                    tensors.withUnsafeBytes { tensors in
                        options.withC {
                            graft_adapter_open_memory(
                                handle.pointer, config.data, config.len, tensors.baseAddress, tensors.count, $0, out, error)
                        }
                    }
                }
            })
        }
    }

    /// A new conversation with this model.
    ///
    /// - Throws: `GraftError` where an option is out of range.
    public func makeSession(options: SessionOptions = SessionOptions()) throws -> Session {
        let session = try Handle(freedBy: graft_session_free) { out, error in
            options.withC { graft_session_new(handle.pointer, $0, out, error) }
        }
        return Session(session, model: self)
    }
}

/// How to open a model.
public struct ModelOptions: Sendable {
    /// How the weights come into memory.
    public enum Loading: Sendable {
        /// The file is mapped: pages are read when they are needed and shared with other processes.
        case map
        /// The file is read: it may change or go away afterwards.
        case read
    }

    /// What runs a model.
    public enum Device: Hashable, Sendable {
        /// An NVIDIA GPU where there is one that the library can use, else the CPU.
        case automatic
        /// The CPU.
        case cpu
        /// The NVIDIA GPU of this index, or without one that which has most memory free; an error where there is none.
        case cuda(index: Int? = nil)
    }

    /// How the weights come into memory.
    public var loading = Loading.map
    /// Threads that compute; `nil`: one for each core.
    public var threads: Int?
    /// The path of a `tokenizer.json`, for files that have no tokenizer.
    public var tokenizer: String?
    /// What runs the model.
    public var device = Device.automatic
    /// Layers on the GPU, the last ones, and with them the head; `nil`: as many as fit into its free memory.
    public var gpuLayers: Int?
    /// Is told the share that is done, from 0 to 1.
    public var progress: (@Sendable (Float) -> Void)?

    /// What suits most models.
    public init() {}

    func withC<Result>(_ monitor: Monitor, _ body: (UnsafePointer<graft_model_options>) -> Result) -> Result {
        withText(tokenizer ?? "") { text in
            var options = graft_model_options()
            graft_model_options_init(&options, MemoryLayout<graft_model_options>.stride)
            options.load_mode = loading == .map ? GRAFT_LOAD_MAP : GRAFT_LOAD_READ
            if let threads { options.threads = UInt32(clamping: threads) }
            if tokenizer != nil { (options.tokenizer, options.tokenizer_len) = (text.data, text.len) }
            switch device {
            case .automatic: options.device = GRAFT_DEVICE_AUTO
            case .cpu: options.device = GRAFT_DEVICE_CPU
            case .cuda(let index):
                options.device = GRAFT_DEVICE_CUDA
                if let index { options.device_index = Int32(clamping: index) }
            }
            if let gpuLayers { options.gpu_layers = Int32(clamping: gpuLayers) }
            options.progress = Monitor.report
            return monitor.withPointer {
                options.progress_user_data = $0
                return body(&options)
            }
        }
    }
}
