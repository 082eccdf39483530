import CGraft
import Foundation

extension Session {
    /// Writes the tokens and their cache to a file, whole or not at all, so that a conversation goes on after the app was ended. Adapters
    /// are not in it.
    ///
    /// - Throws: `GraftError` where it cannot be written.
    public func save(to path: String) async throws {
        try await run { session in
            try withText(path) { path in try check { graft_session_save(session, path.data, path.len, $0) } }
        }
    }

    /// Goes on from what ``save(to:)`` wrote, from any session of the same model. The adapters that were on then should be on.
    ///
    /// - Throws: `GraftError` for a file that is broken or of another model or precision; the session is then as before.
    public func restore(from path: String) async throws {
        try await run { session in
            try withText(path) { path in try check { graft_session_restore(session, path.data, path.len, $0) } }
        }
    }

    /// The tokens and their cache as bytes.
    ///
    /// - Throws: `GraftError` after a defect in Graft only.
    public func state() async throws -> Data {
        try await run { session in
            var (bytes, length): (UnsafeMutablePointer<UInt8>?, Int) = (nil, 0)
            try check { graft_session_save_memory(session, &bytes, &length, $0) }
            guard let bytes else { return Data() }
            return Data(bytesNoCopy: bytes, count: length, deallocator: .custom { memory, _ in graft_free(memory) })
        }
    }

    /// Goes on from what ``state()`` gave, as from a file.
    ///
    /// - Throws: as for a file.
    public func restore(from state: Data) async throws {
        try await run { session in
            try state.withUnsafeBytes { bytes in
                try check { graft_session_restore_memory(session, bytes.baseAddress, bytes.count, $0) }
            }
        }
    }
}
