import Foundation
import XCTest

@testable import Graft

final class StateTests: XCTestCase {
    func testAStateIsSavedAndRestored() async throws {
        let model = try await Model.open(path: tinyModel)
        let session = try model.makeSession()
        let options = GenerateOptions(maxTokens: 10)
        _ = try await session.answer(.text("Once upon a time"), options: options)
        let state = try await session.state()
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("graft-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try await session.save(to: path)
        let expected = try await session.answer(.text(" there was"), options: options).text

        let fromMemory = try model.makeSession()
        try await fromMemory.restore(from: state)
        let one = try await fromMemory.answer(.text(" there was"), options: options).text
        let fromFile = try model.makeSession()
        try await fromFile.restore(from: path)
        let other = try await fromFile.answer(.text(" there was"), options: options).text
        XCTAssertEqual(one, expected)
        XCTAssertEqual(other, expected)
        let broken = await graftError { try await fromFile.restore(from: state.prefix(20)) }
        XCTAssertEqual(broken?.status, .invalid)
    }
}
