import CGraft

/// An adapter that is put on a model: immutable, and shared by all sessions that use it.
public final class Adapter: Sendable {
    let handle: Handle
    /// Facts about the adapter.
    public let info: AdapterInfo

    init(_ handle: Handle) throws {
        self.handle = handle
        info = try AdapterInfo(handle)
    }
}

/// Facts about an adapter.
public struct AdapterInfo: Hashable, Sendable {
    /// The method, such as `LORA`.
    public let method: String
    /// Places in the model that it changes.
    public let sites: UInt64
    /// Values that it brings.
    public let parameters: UInt64
    /// Memory that it takes.
    public let bytes: UInt64
    /// The largest rank of its updates; 0 where there are none.
    public let maximumRank: Int

    init(_ adapter: Handle) throws {
        var info = graft_adapter_info()
        info.struct_size = MemoryLayout<graft_adapter_info>.stride
        try check { graft_adapter_get_info(adapter.pointer, &info, $0) }
        method = string(info.method) ?? ""
        sites = info.sites
        parameters = info.parameters
        bytes = info.bytes
        maximumRank = Int(info.max_rank)
    }
}

/// How to open an adapter.
public struct AdapterOptions: Hashable, Sendable {
    /// Which task, for adapters of multitask prompt tuning.
    public var taskID: Int?

    /// What suits every adapter for one task.
    public init() {}

    func withC<Result>(_ body: (UnsafePointer<graft_adapter_options>) throws -> Result) rethrows -> Result {
        var options = graft_adapter_options()
        graft_adapter_options_init(&options, MemoryLayout<graft_adapter_options>.stride)
        if let taskID { options.task_id = Int64(taskID) }
        return try body(&options)
    }
}

/// An adapter and how much of it is applied.
public struct WeightedAdapter: Sendable {
    /// The adapter.
    public let adapter: Adapter
    /// 1 applies it as it was trained.
    public let weight: Float

    /// The adapter, with this weight.
    public init(_ adapter: Adapter, weight: Float = 1) {
        self.adapter = adapter
        self.weight = weight
    }
}

func withAdapters<Result>(
    _ adapters: [WeightedAdapter], _ body: (_ handles: [OpaquePointer?], _ weights: [Float]) throws -> Result
) rethrows -> Result {
    try withExtendedLifetime(adapters) { try body(adapters.map(\.adapter.handle.pointer), adapters.map(\.weight)) }
}
