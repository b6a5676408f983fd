import {
	CronCapability,
	type CronPayload,
	consensusMedianAggregation,
	handler,
	type NodeRuntime,
	Runner,
	type Runtime,
} from '@chainlink/cre-sdk'
import { hmac } from '@noble/hashes/hmac.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'
import { z } from 'zod'

const configSchema = z.object({
	schedule: z.string().min(1),
	secret: z.string().min(1),
	samples: z.array(z.number().finite()).min(1),
})

type Config = z.infer<typeof configSchema>

// What one node observes: the middle of its samples.
const observe = (nodeRuntime: NodeRuntime<Config>): number => {
	const sorted = [...nodeRuntime.config.samples].sort((a, b) => a - b)
	const middle = sorted[Math.floor((sorted.length - 1) / 2)]
	if (middle === undefined) {
		throw new Error('there are no samples to observe')
	}

	return middle
}

// The key is used and not shown: whoever has it too can check the tag, nobody can learn it from the result.
const onTick = (runtime: Runtime<Config>, tick: CronPayload) => {
	const agreed = runtime.runInNodeMode(observe, consensusMedianAggregation<number>())().result()
	const key = runtime.getSecret({ id: runtime.config.secret }).result().value
	const message = `${tick.scheduledExecutionTime?.seconds ?? 0n} ${agreed}`

	return {
		agreed,
		message,
		hmac: bytesToHex(hmac(sha256, utf8ToBytes(key), utf8ToBytes(message))),
	}
}

const initWorkflow = (config: Config) => {
	const cron = new CronCapability()

	return [handler(cron.trigger({ schedule: config.schedule }), onTick)]
}

export async function main() {
	const runner = await Runner.newRunner<Config>({ configSchema })
	await runner.run(initWorkflow)
}
