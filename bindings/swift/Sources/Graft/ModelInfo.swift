import CGraft

/// Facts about a model.
public struct ModelInfo: Hashable, Sendable {
    /// The architecture, such as `llama`.
    public let architecture: String
    /// The name in the file, where it has one.
    public let name: String?
    /// The instruction set level that runs it, such as `avx2` or `neon-i8mm`.
    public let instructionSet: String
    /// Threads that work for it.
    public let threads: Int
    /// Where it runs, or why no GPU was taken on its own; `nil` on the CPU alone.
    public let device: String?
    /// Layers on a GPU.
    public let gpuLayers: Int
    /// Values in all weights.
    public let parameters: UInt64
    /// Bytes of all weights.
    public let weightBytes: UInt64
    /// Entries of the vocabulary.
    public let vocabularySize: Int
    /// Tokens that the model was made for at most.
    public let contextLength: Int
    /// Layers.
    public let layers: Int
    /// Values of a token between two layers, and of an embedding.
    public let hiddenSize: Int
    /// The token that begins a text, where there is one.
    public let beginToken: UInt32?
    /// The token that ends a text, where there is one.
    public let endToken: UInt32?
    /// Whether a conversation can be made to text.
    public let hasChatTemplate: Bool

    init(_ model: Handle) throws {
        var info = graft_model_info()
        info.struct_size = MemoryLayout<graft_model_info>.stride
        try check { graft_model_get_info(model.pointer, &info, $0) }
        architecture = string(info.architecture) ?? ""
        name = string(info.name)
        instructionSet = string(info.isa) ?? ""
        threads = Int(info.threads)
        device = string(info.device)
        gpuLayers = Int(info.gpu_layers)
        parameters = info.parameters
        weightBytes = info.weight_bytes
        vocabularySize = Int(info.vocab_size)
        contextLength = Int(info.context_length)
        layers = Int(info.n_layers)
        hiddenSize = Int(info.hidden_size)
        beginToken = UInt32(exactly: info.bos)
        endToken = UInt32(exactly: info.eos)
        hasChatTemplate = info.has_chat_template != 0
    }
}

extension Model {
    /// The keys of the file's metadata, in its order.
    public var metadataKeys: [String] {
        get throws {
            var count = 0
            try check { graft_model_metadata_count(handle.pointer, &count, $0) }
            return try (0..<count).map { index in
                var key: UnsafePointer<CChar>?
                try check { graft_model_metadata_key(handle.pointer, index, &key, $0) }
                return string(key) ?? ""
            }
        }
    }

    /// The value of a metadata key as JSON.
    ///
    /// - Throws: `GraftError` where there is no such key.
    public func metadata(_ key: String) throws -> String {
        try withText(key) { key in
            try takeText { graft_model_metadata(handle.pointer, key.data, key.len, $0, $1, $2) }
        }
    }
}
