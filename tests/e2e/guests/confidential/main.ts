// Fetches secrets, lets the node agree on a number, calls what its configuration names, and logs what it should not.
// No value of a secret is in its result: only how long it is, and a sum over it. It restricts itself if it is told to.
import { create } from '@bufbuild/protobuf'
import { EmptySchema } from '@bufbuild/protobuf/wkt'
import {
	CronCapability,
	consensusMedianAggregation,
	handler,
	handlerInTee,
	type NodeRuntime,
	Runner,
	type Runtime,
	type TeeRuntime,
} from '@chainlink/cre-sdk'

type Config = {
	schedule: string
	tee: boolean
	sample: number
	secrets: { id: string; namespace?: string }[]
	calls: string[]
	allowed?: string
}

const attempt = (act: () => string): string => {
	try {
		return act()
	} catch (error) {
		return `error: ${error instanceof Error ? error.message : String(error)}`
	}
}

const sum = (text: string): string => {
	let total = 0
	for (let index = 0; index < text.length; index++) {
		total = (total * 31 + text.charCodeAt(index)) % 1000003
	}
	return `${text.length} ${total}`
}

const call = (runtime: TeeRuntime<Config> | Runtime<Config>, id: string): string => {
	runtime
		.callCapability({
			capabilityId: id,
			method: 'Do',
			payload: create(EmptySchema),
			inputSchema: EmptySchema,
			outputSchema: EmptySchema,
		})
		.result()
	return 'ok'
}

const work = (runtime: TeeRuntime<Config> | Runtime<Config>, don: Runtime<Config>) => {
	const { config } = runtime
	const secrets = config.secrets.map((asked) =>
		attempt(() => {
			const value = runtime.getSecret(asked).result().value
			runtime.log(`the secret is ${value}`)
			return sum(value)
		}),
	)
	const observe = (node: NodeRuntime<Config>): number => node.config.sample
	const agreed = don.runInNodeMode(observe, consensusMedianAggregation<number>())().result()
	return { agreed, secrets, calls: config.calls.map((id) => attempt(() => call(runtime, id))) }
}

// Forbids its own execution every secret but one.
const onlyAllowed = (config: Config) => ({
	secrets: {
		maxSecrets: 9,
		restrictions: [{ exactSecret: { id: config.allowed ?? '', namespace: 'main' } }],
	},
})

const initWorkflow = (config: Config) => {
	const trigger = new CronCapability().trigger({ schedule: config.schedule })
	const hooks = config.allowed === undefined ? undefined : { preHook: onlyAllowed }
	if (config.tee) {
		return [handlerInTee(trigger, (runtime: TeeRuntime<Config>) => work(runtime, runtime.usingTheDons()), {}, hooks)]
	}
	return [handler(trigger, (runtime: Runtime<Config>) => work(runtime, runtime), hooks)]
}

export async function main() {
	const runner = await Runner.newRunner<Config>()
	await runner.run(initWorkflow)
}
