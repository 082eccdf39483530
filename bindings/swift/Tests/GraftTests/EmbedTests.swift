import Foundation
import XCTest

@testable import Graft

final class EmbedTests: XCTestCase {
    func testEmbeddings() async throws {
        let model = try await Model.open(path: tinyModel)
        let session = try model.makeSession()
        let tokens = try model.tokenize("Once upon a time")
        let mean = try await session.embed(tokens)
        let last = try await session.embed(tokens, pooling: .last)
        XCTAssertEqual(mean.count, model.info.hiddenSize)
        XCTAssertNotEqual(mean, last)
        XCTAssertTrue(mean.allSatisfy(\.isFinite))
    }
}
