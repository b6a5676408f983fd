// Fetches one secret, then replies with it.
import { CronCapability, handler, Runner, type Runtime } from '@chainlink/cre-sdk'

const onCron = (runtime: Runtime<unknown>): string => runtime.getSecret({ id: 'Foo' }).result().value

const initWorkflow = () => [handler(new CronCapability().trigger({ schedule: '*/30 * * * * *' }), onCron)]

export async function main() {
	const runner = await Runner.newRunner()
	await runner.run(initWorkflow)
}
