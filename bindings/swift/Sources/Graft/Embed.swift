import CGraft

extension Session {
    /// Appends tokens and gives one vector for them, `model.info.hiddenSize` values, not normalised. For a text of its own call ``reset()``
    /// before.
    ///
    /// - Throws: as ``evaluate(_:)``.
    public func embed(_ tokens: [UInt32], pooling: Pooling = .last) async throws -> [Float] {
        let size = model.info.hiddenSize
        return try await run { session in
            var values = [Float](repeating: 0, count: size)
            try check { graft_session_embed(session, tokens, tokens.count, pooling.rawValue, &values, size, $0) }
            return values
        }
    }
}

/// How one vector is made of those of a text's tokens.
public enum Pooling: Sendable {
    /// That of the last token, which has seen all others.
    case last
    /// Their mean.
    case mean
    /// That of the first token.
    case first

    var rawValue: Int32 {
        switch self {
        case .mean: GRAFT_POOLING_MEAN
        case .last: GRAFT_POOLING_LAST
        case .first: GRAFT_POOLING_FIRST
        }
    }
}
