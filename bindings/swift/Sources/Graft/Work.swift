// Work that takes long: off the threads that Swift's tasks share, with progress and cancelling.
import CGraft
import Dispatch
import Foundation

extension DispatchQueue {
    /// Runs `work`, which blocks, on this queue and not on the threads that Swift's tasks share.
    func result<Value: Sendable>(of work: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            self.async { continuation.resume(with: Swift.Result { try work() }) }
        }
    }
}

/// Where models and adapters are opened, merged and combined.
let workQueue = DispatchQueue(label: "graft.work", attributes: .concurrent)

/// A flag that any thread can set to end work that is under way, or that has not begun.
final class CancelFlag: Sendable {
    let handle: Handle

    init() throws {
        handle = try Handle(freedBy: graft_cancel_free) { graft_cancel_new($0, $1) }
    }

    func set() { graft_cancel_set(handle.pointer) }

    func clear() { graft_cancel_clear(handle.pointer) }
}

/// One call's use of the flag that all calls of a batch or a trainer have: a task that is cancelled sets it while its own call is under way, and never
/// ends another's.
final class Turn: @unchecked Sendable {
    private let lock = NSLock()
    private let flag: CancelFlag
    private var cancelled = false
    private var underWay = false

    init(_ flag: CancelFlag) { self.flag = flag }

    func begin() throws {
        lock.lock()
        defer { lock.unlock() }
        if cancelled { throw CancellationError() }
        underWay = true
    }

    func end() {
        lock.lock()
        defer { lock.unlock() }
        underWay = false
        flag.clear()
    }

    func cancel() {
        lock.lock()
        defer { lock.unlock() }
        cancelled = true
        if underWay { flag.set() }
    }
}

/// Tells how far work is and carries the word that it is to end.
final class Monitor: Sendable {
    private let tell: (@Sendable (Float) -> Void)?
    private let cancelled = Locked(false)

    private init(_ tell: (@Sendable (Float) -> Void)?) { self.tell = tell }

    /// Runs work that tells `tell` how far it is and ends when the task is cancelled.
    static func run<Value: Sendable>(
        _ tell: (@Sendable (Float) -> Void)?, _ work: @escaping @Sendable (Monitor) throws -> Value
    ) async throws -> Value {
        let monitor = Monitor(tell)
        return try await withTaskCancellationHandler {
            try await workQueue.result { try work(monitor) }
        } onCancel: {
            monitor.cancelled.set(true)
        }
    }

    /// For the C interface, with what `withPointer` lends.
    static let report: graft_progress_callback = { share, user in
        let monitor = Unmanaged<Monitor>.fromOpaque(user!).takeUnretainedValue()
        monitor.tell?(share)
        return monitor.cancelled.get() ? 1 : 0
    }

    func withPointer<Result>(_ body: (UnsafeMutableRawPointer) throws -> Result) rethrows -> Result {
        try withExtendedLifetime(self) { try body(Unmanaged.passUnretained(self).toOpaque()) }
    }
}

/// A value behind a lock.
final class Locked<Value: Sendable>: @unchecked Sendable {
    private let lock = NSLock()
    private var value: Value

    init(_ value: Value) { self.value = value }

    func get() -> Value {
        lock.lock()
        defer { lock.unlock() }
        return value
    }

    func set(_ new: Value) {
        lock.lock()
        defer { lock.unlock() }
        value = new
    }
}
